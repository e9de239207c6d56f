// Exchanges the code of a link for a session. A click starts it, so that a scanner of links does not use the code up.
const code = location.hash.slice(1);
// The code leaves the address and the history before anything else happens.
history.replaceState(null, '', location.pathname);

const why = document.getElementById('why');
const enter = document.getElementById('enter');
const issuer = document.getElementById('issuer');
if (code) {
  enter.hidden = false;
  // The visitor came by a link, and not for the issuer.
  if (issuer) {
    issuer.hidden = true;
    why.textContent = why.dataset.link;
  }
} else if (!issuer) why.textContent = 'This address signs nobody in. Open a new link from where you got this one.';

enter.addEventListener('click', async () => {
  enter.disabled = true;
  try {
    const response = await fetch('/signin', { method: 'POST', body: new URLSearchParams({ code }) });
    if (response.ok) {
      location.replace('/');
      return;
    }
    why.textContent = await response.text();
    enter.hidden = response.status < 500 && response.status !== 429;
    if (issuer && enter.hidden) issuer.hidden = false;
  } catch {
    why.textContent = 'The server was not reached. Try again.';
  }
  enter.disabled = false;
});

// In a frame, the page of the platform opens the link. No scanner of links comes here, and a second click would be in vain.
if (code && parent !== window) enter.click();
