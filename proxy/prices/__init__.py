"""What tokens cost: tariffs as flat numbers, the built-in table they come from, and the config's own prices."""
