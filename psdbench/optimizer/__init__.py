"""The shared 3D optimizer: the loop that every method goes through, and what it is built from."""
