// What the drawings of this folder are made with; put in front of them.

const SVG = "http://www.w3.org/2000/svg";

function make(parent, tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

// Calls back after a change of any trait.  The widget sets several at once: they are drawn together.
function watch(model, keys, draw) {
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => { waiting = false; draw(); });
  };
  for (const key of keys) model.on(`change:${key}`, later);
  return { later, stop() { for (const key of keys) model.off(`change:${key}`, later); } };
}
