// Says what a bar of a chart stands for: under a pointer, a finger, or while the chart has the focus.

let shown = null;

const box = () => document.getElementById('tip');
const parts = (chart) => [...chart.querySelectorAll('.part')];

function hide() {
  shown = null;
  box().hidden = true;
  for (const part of document.querySelectorAll('.part.shown')) part.classList.remove('shown');
}

// show puts the words of a bar above it. The chart may be drawn anew meanwhile, so that it is named by its place.
function show(name, index) {
  const chart = document.querySelector(`[data-chart="${name}"]`);
  const part = chart && parts(chart)[index];
  hide();
  if (!part) return;
  shown = { name, index };
  part.classList.add('shown');
  const tip = box();
  tip.textContent = part.dataset.tip;
  tip.hidden = false;
  const bar = part.getBoundingClientRect();
  const left = bar.left + bar.width / 2 - tip.offsetWidth / 2;
  tip.style.left = Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8)) + 'px';
  tip.style.top = Math.max(8, bar.top - tip.offsetHeight - 6) + 'px';
}

function pointed(e) {
  const part = e.target.closest?.('.part');
  const chart = part?.closest('[data-chart]');
  if (chart) show(chart.dataset.chart, parts(chart).indexOf(part));
  else if (shown && e.type === 'pointerdown' || e.pointerType === 'mouse' && !e.target.closest?.('[data-chart]:focus')) hide();
}

function moved(e) {
  const chart = e.target.closest?.('[data-chart]');
  const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
  if (!chart || !step) return;
  e.preventDefault();
  e.stopPropagation();
  const last = parts(chart).length - 1;
  const from = shown?.name === chart.dataset.chart ? shown.index + step : last;
  show(chart.dataset.chart, Math.max(0, Math.min(from, last)));
}

export function start() {
  document.addEventListener('pointerdown', pointed);
  document.addEventListener('pointerover', pointed);
  document.addEventListener('keydown', moved, true);
  document.addEventListener('focusout', (e) => { if (e.target.closest('[data-chart]')) hide(); });
  document.addEventListener('swapped', () => { if (shown) show(shown.name, shown.index); });
  addEventListener('scroll', () => { if (shown) hide(); }, { passive: true });
}
