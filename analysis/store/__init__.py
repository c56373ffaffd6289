"""Files between the stages: xarray datasets in netCDF and states in safetensors, which are always complete.

Everything is written under a temporary name in the same folder and moved into place (`os.replace`), so a file
under its final name is complete. The content has a SHA-256, which reading checks, because neither format has checksums
for all its content, and a flipped bit would look like a valid number. Everything that differs between two equal runs
(versions, machine, times) is in the single attribute `provenance`.
"""
