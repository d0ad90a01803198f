"""Makes the VM's kernel and initrd from a distribution's packages, with the standard library only."""
