// Follows histogram.js in a report: one histogram at a time, of the layer and values chosen.

function mountReport() {
  const data = document.getElementById("qi-layers");
  if (!data) return;
  const found = JSON.parse(data.textContent);
  const holder = document.getElementById("qi-layers-figure");
  const [layer, kind] = ["qi-layers-layer", "qi-layers-kind"].map((id) => document.getElementById(id));
  const fill = (list, names) => {
    const kept = list.value;
    list.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(kept)) list.value = kept;
  };
  fill(kind, [...new Set(found.map((item) => item.kind))]);
  let view = null;
  const show = () => {
    fill(layer, found.filter((item) => item.kind === kind.value).map((item) => item.layer));
    if (view) view.remove();
    const item = found.find((one) => one.kind === kind.value && one.layer === layer.value);
    view = mount(holder, { ...item }, () => {});
  };
  kind.addEventListener("change", show);
  layer.addEventListener("change", show);
  show();
}

mountReport();
