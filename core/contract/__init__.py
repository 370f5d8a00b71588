"""The contract between the engine and its plugins: hook specs, their typed façade, data types."""
