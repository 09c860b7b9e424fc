// What somebody without a mouse does on a page: Tab leads to everything that does something, what has the focus can be seen, and nothing keeps it.

/** Runs before a page's own scripts: notes what has a handler for a mouse, which no selector finds. */
export function watchesHandlers() {
  const MOUSE = ['click', 'dblclick', 'mousedown', 'mouseup', 'pointerdown', 'pointerup', 'touchstart', 'touchend'];
  const handled = new Set();
  const { addEventListener: add } = EventTarget.prototype;
  EventTarget.prototype.addEventListener = function (type, ...more) {
    if (this instanceof Element && MOUSE.includes(type)) handled.add(this);
    return add.call(this, type, ...more);
  };
  window.handledByMouse = () => [...handled].filter((one) => one.isConnected);
}

/** Begins before the first element of a page, or of its open dialog, and notes each that gets the focus from now on. */
function begin() {
  const CONTROLS = 'button, a[href], input, select, textarea, summary, [tabindex="0"], [contenteditable]';
  // Escape does what a click beside a dialog does; what a plot shows below the mouse is in its table.
  // The arrows choose what a list offers to its field.
  const EXCEPT = 'dialog, .uplot *, [role="option"]';
  const root = document.querySelector('dialog[open]') ?? document.body;
  const before = document.activeElement;
  const closed = [...root.querySelectorAll('details:not([open])')];
  closed.forEach((one) => (one.open = true));
  const inUse = (one) => root.contains(one) && !one.matches(':disabled') && one.checkVisibility({ visibilityProperty: true });
  const said = (one) => `${one.localName} ${(one.getAttribute('aria-label') || one.textContent || one.name || one.getAttribute('class') || '').trim().replace(/\s+/g, ' ').slice(0, 40)}`;
  const wanted = [...new Set([...root.querySelectorAll(CONTROLS), ...window.handledByMouse()])].filter((one) => inUse(one) && !one.matches(EXCEPT));
  const reached = new Set();
  const unseen = new Set();
  let isRound = false;
  const noted = ({ target }) => {
    isRound ||= target === [...reached][0];
    reached.add(target);
    const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(target);
    const { left, right, top, bottom } = target.getBoundingClientRect();
    if (outlineStyle === 'none' || parseFloat(outlineWidth) < 1 || /, 0\)$/.test(outlineColor)) unseen.add(`no outline says that the focus is at ${said(target)}`);
    if (right <= 0 || left >= innerWidth || bottom <= 0 || top >= innerHeight) unseen.add(`out of sight with the focus: ${said(target)}`);
  };
  const start = Object.assign(document.createElement('span'), { tabIndex: -1 });
  root.prepend(start);
  start.focus();
  start.remove();
  document.addEventListener('focusin', noted);
  window.walk = {
    count: wanted.length,
    isRound: () => isRound,
    found() {
      document.removeEventListener('focusin', noted);
      // One of a group of radio buttons has a Tab, the others have the arrows.
      const ofGroup = (one) => one.type === 'radio' && [...reached].some((other) => other.type === 'radio' && other.name === one.name);
      const missed = wanted.filter((one) => inUse(one) && !reached.has(one) && !ofGroup(one));
      closed.forEach((one) => (one.open = false));
      const found = [...(isRound ? [] : [`Tab does not lead on from ${said(document.activeElement)}`]), ...missed.map((one) => `no Tab leads to ${said(one)}`), ...unseen];
      before.focus();
      return found;
    },
  };
}

/** Goes round a page by Tab; what is wrong with that, in words. */
export async function keyboardFinds(page) {
  await page.evaluate(begin);
  const most = 3 * (await page.evaluate(() => window.walk.count)) + 100;
  for (let presses = 0; presses < most && !(await page.evaluate(() => window.walk.isRound())); presses += 10) {
    for (let n = 0; n < 10; n++) await page.keyboard.press('Tab');
  }
  return page.evaluate(() => window.walk.found());
}
