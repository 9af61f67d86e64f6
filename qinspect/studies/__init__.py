"""One experiment end to end: spec, run, summary, load; and sweeps over many."""
