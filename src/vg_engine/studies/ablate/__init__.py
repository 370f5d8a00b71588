"""The choices of the method varied one by one."""
