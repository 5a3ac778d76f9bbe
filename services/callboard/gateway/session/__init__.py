"""Who watches and who publishes: one object for each, from its offer to its good-bye."""
