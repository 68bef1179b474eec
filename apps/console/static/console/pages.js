// htmx would write a style sheet for its indicators into the page, which the Content-Security-Policy refuses, and evaluate filters of triggers.
htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;
