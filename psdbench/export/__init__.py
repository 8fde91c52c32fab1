"""Assets as files of other programs, and such files as shapes to start from."""

MESH_RESOLUTION = 96
"""cells along an edge of the cube for a mesh"""
