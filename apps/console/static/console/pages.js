// htmx would write a style sheet for its indicators into the page, which the Content-Security-Policy refuses, and evaluate filters of triggers.
htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;

// A passkey that was not used, or not made: allauth's script reports it by this event, and prints it where nobody answers.
document.addEventListener('allauth.error', (event) => {
  event.preventDefault();
  document.getElementById('passkey-error').hidden = false;
});

document.addEventListener('click', (event) => {
  if (event.target.closest('[data-print]')) window.print();
});
