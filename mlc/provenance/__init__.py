"""What every stage that decides ran with: its commit and code, its settings, what it read and what it wrote."""
