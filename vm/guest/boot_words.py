"""What a machine that can't boot says on its console, for the host to find there."""

BOOT_FAILED = "kernelproof: BOOT FAILED"  # with the reason behind it
NO_CONSOLE = "this kernel has no virtio console (CONFIG_VIRTIO_CONSOLE, CONFIG_VIRTIO_PCI)"
