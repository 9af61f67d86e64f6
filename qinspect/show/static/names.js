// Gives the parts of core widgets that have no accessible name the one of their control (the
// handle of a slider, the two buttons of a player), a figure the sentence below it, and the arrow
// keys back to lists.

function name(root) {
  for (const handle of root.querySelectorAll(".noUi-handle")) {
    const control = handle.closest(".widget-slider, .jupyter-widgets");
    const holder = handle.closest(".widget-inline-hbox, .widget-inline-vbox") || control;
    const label = holder.querySelector(".widget-label");
    const shown = holder.querySelector(".widget-readout");
    if (label) handle.setAttribute("aria-label", label.textContent);
    if (shown) handle.setAttribute("aria-valuetext", shown.textContent);
  }
  for (const figure of root.querySelectorAll("img.widget-image")) {
    const said = figure.parentElement.textContent.trim();
    if (figure.alt !== said) figure.alt = said;
  }
  for (const player of root.querySelectorAll(".widget-play")) {
    ["play or pause the steps", "stop and go back to the first step"].forEach((text, at) => {
      const button = player.querySelectorAll("button")[at];
      if (button) button.setAttribute("aria-label", text);
    });
  }
}

const LIST_KEYS = ["ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

// JupyterLab listens on the document, before any list in it, and would move between cells; only
// the window comes earlier.  What the browser itself does with the key is not touched.
function keepKeys(event) {
  const target = event.target;
  if (target.matches?.("select") && target.closest(".qinspect-explorer")
      && LIST_KEYS.includes(event.key)) event.stopPropagation();
}

function render({ el }) {
  let observer = null;
  window.addEventListener("keydown", keepKeys, true);  // adding the same one again does nothing
  // The element is put into the page after this function returns.
  const timer = setTimeout(() => {
    const root = el.closest(".qinspect-explorer");
    if (!root) return;
    name(root);
    observer = new MutationObserver(() => name(root));
    observer.observe(root, { childList: true, subtree: true, characterData: true });
  }, 50);
  return () => { clearTimeout(timer); if (observer) observer.disconnect(); };
}

export default { render };
