// Opens the portal in the frame, and gives the frame the height of its page.
const portal = 'https://postbacks.example.com';
const frame = document.querySelector('iframe[name=portal]');

addEventListener('message', (e) => {
  if (e.origin !== portal || e.source !== frame.contentWindow || e.data?.type !== 'postback-portal') return;
  // A frame that is higher than the window would open its dialogs out of sight.
  frame.style.height = Math.min(e.data.height, innerHeight - 48) + 'px';
});

// Each view of this page needs a link of its own, because a link works once.
document.getElementById('open').submit();
