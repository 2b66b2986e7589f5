"""What containers need of a vendor's devices: the image for them, and parts of the driver that Ascend mounts."""

from planner.errors import InputError
from planner.launch.definition import definition
from planner.launch.engine import Engine

ASCEND_DRIVER = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/driver/tools/hccn_tool",
    "/etc/ascend_install.info",
    "/etc/hccn.conf",
)


def image(engine: Engine, hardware: str, vendor: str) -> str:
    """Return the image for a device, by the beginning of its name or by its vendor.

    Raises:
        InputError: there is none.
    """
    named = (found for key, found in engine.images.items() if hardware.startswith(key))
    found = next(named, engine.images.get(vendor))
    if found is None:
        msg = (
            f"no image of {engine.title} {definition(engine.name).version} for {hardware} of {vendor} is known, "
            f"only for {', '.join(engine.images)}"
        )
        raise InputError.single("", msg)
    return found
