"""The sharded learning step: packing of streams, the loss, optimizer state and guards."""
