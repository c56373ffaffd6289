"""Files between the stages: xarray datasets in netCDF and states in safetensors, always whole.

Everything is written under a temporary name in the same folder and moved into place (`os.replace`), so a file
under its final name is complete. A SHA-256 goes with the content, and reading checks it: neither format has checksums
of its own for all that it holds, and a flipped bit would pass for a number. What differs between two equal runs
(versions, machine, times) stands in the one attribute `provenance`.
"""
