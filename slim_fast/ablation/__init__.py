"""The paper's two ablations at any scale: which runs they are, and the table they make."""
