"""Assets as files of other programs, and such files as shapes to start from."""

MESH_LEVEL = 10.0
"""extinction per world unit at a mesh's surface: a third of the light stops within 0.04 units, a voxel"""
MESH_RESOLUTION = 96
"""cells along an edge of the cube for a mesh"""
