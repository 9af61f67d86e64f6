"""One cause a file; see :class:`qinspect.diagnose.rule.Rule` for the form."""
