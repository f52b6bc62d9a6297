"""What a box looks like from inside, and who it is on the host."""

WORKSPACE = "/workspace"
HOME = "/home/user"
BASE = "/base"
OPT_PYTHON = "/opt/python"
OPT_TOOLCHAIN = "/opt/patchkiln/python"

USER = "user"
HOSTNAME = "sandbox"
BOX_UID = 1000
BOX_GID = 1000
# Root of the host is never root of a box: a box that root starts runs as this id, which owns
# nothing but what boxes made. 65534 is "nobody", with whom other software shares files.
HOST_UID = 65533
HOST_GID = 65533
# Where what a box is made from stands until it is made.
SCAFFOLD = "/scaffold"
