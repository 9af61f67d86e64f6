"""From a case to the name of its cause: evidence, interventions, answer."""
