// Leaves the page at the end of a sign-in, whose address holds a code, and renews a session before a page is shown.
import { renew } from './session.js';

async function again() {
  const why = document.getElementById('why');
  try {
    const response = await renew();
    // The page comes, or says that the session has ended.
    if (response.ok || response.status === 401) location.reload();
    else why.textContent = why.dataset.failed;
  } catch {
    why.textContent = why.dataset.failed;
  }
}

if (document.body.dataset.go) location.replace(document.body.dataset.go);
else again();
