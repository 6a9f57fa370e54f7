"""What a transform job needs of the emulator: its container as the engine asks it, its S3 as a place, its log."""
