"""The data set `things`: scenes of everyday things on photographs."""
