// A histogram with a clip range that is moved by mouse, touch or keyboard.
// Used by the widgets (anywidget calls `render`) and by the offline report (which calls `mount`).
// Names are put in as text only, never as markup.

const W = 720, H = 300, LEFT = 66, RIGHT = 14, TOP = 34, BOTTOM = 46;
const BARS = 144;

// Significant figures, as Python's "%.4g" writes everyday numbers.
function short(value, figures = 4) {
  return value === 0 ? "0" : String(Number(value.toPrecision(figures)));
}

// Half to even, as NumPy's rint.
function rint(value) {
  const floor = Math.floor(value), part = value - floor;
  if (part < 0.5) return floor;
  if (part > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

// The affine grid for a range: low <= 0 <= high.
export function grid(low, high, bits, symmetric) {
  const qlow = -(2 ** (bits - 1)), qhigh = 2 ** (bits - 1) - 1;
  const span = symmetric ? Math.max(-low, high) : high - low;
  let step = Math.fround(span / (symmetric ? qhigh : qhigh - qlow));
  if (!(step >= 1.1754943508222875e-38)) step = 1;
  const zero = symmetric || span === 0
    ? 0 : Math.min(qhigh, Math.max(qlow, rint(qlow - low / step)));
  return { step, zero, qlow, qhigh, low: step * (qlow - zero), high: step * (qhigh - zero) };
}

export function effect(series, low, high, bits, symmetric) {
  const g = grid(low, high, bits, symmetric);
  let noise = 0, signal = 0, clippedNoise = 0, clipped = 0, total = 0;
  for (let i = 0; i < series.counts.length; i++) {
    const n = series.counts[i];
    if (n === 0) continue;
    const c = series.low + series.width * (i + 0.5);
    const q = Math.min(g.qhigh, Math.max(g.qlow, rint(c / g.step) + g.zero));
    const e = n * ((q - g.zero) * g.step - c) ** 2;
    noise += e; signal += n * c * c; total += n;
    if (c < g.low - g.step / 2 || c > g.high + g.step / 2) { clippedNoise += e; clipped += n; }
  }
  return {
    ...g, clippedShare: clipped / total,
    sqnr: noise > 0 && signal > 0 ? 10 * Math.log10(signal / noise) : Infinity,
    clippedErrorShare: noise > 0 ? clippedNoise / noise : 0,
  };
}

function sentence(found, bits) {
  const sqnr = found.sqnr === Infinity ? "no error" : `SQNR ${found.sqnr.toFixed(1)} dB`;
  return `Range ${short(found.low)} to ${short(found.high)} at ${bits} bits: ` +
    `step ${short(found.step, 3)}, ${(100 * found.clippedShare).toFixed(2)} % of the values clipped, ${sqnr}, ` +
    `${(100 * found.clippedErrorShare).toFixed(0)} % of the squared error from clipping.`;
}

// Share of each series in BARS even bars over the axis.
function bars(series, from, to) {
  const out = new Float64Array(BARS);
  let total = 0;
  for (let i = 0; i < series.counts.length; i++) {
    const centre = series.low + series.width * (i + 0.5);
    const at = Math.floor((centre - from) / (to - from) * BARS);
    out[Math.min(BARS - 1, Math.max(0, at))] += series.counts[i];
    total += series.counts[i];
  }
  return out.map((value) => value / total);
}

function niceTicks(from, to) {
  const raw = (to - from) / 6, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let k = Math.ceil(from / step); k * step <= to; k++) ticks.push(k * step);
  return ticks;
}

// state: series [{name, colour, low, width, counts}], marks [{name, colour, low, high}],
// clip [low, high], bits, symmetric, log, title, unit.  onClip(clip) after every move.
export function mount(el, state, onClip) {
  const root = document.createElement("div");
  root.className = "qi-hist";
  root.style.cssText = "max-width:760px;color:var(--jp-content-font-color1, inherit);font:12px sans-serif";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.style.cssText = "width:100%;height:auto;display:block;touch-action:none;fill:currentColor";
  svg.setAttribute("role", "group");
  const said = document.createElement("p");
  said.className = "qi-hist-said";
  said.setAttribute("role", "status");
  said.style.cssText = "margin:4px 0;line-height:1.4";
  const help = document.createElement("p");
  help.textContent = "Drag a limit, or focus it and use the arrow keys " +
    "(Page Up and Page Down: ten steps; Home, End: as far as it goes).";
  help.style.cssText = "margin:2px 0;opacity:.8";
  root.append(svg, said, help);
  el.appendChild(root);

  let from, to, picture, shade, ticks, handles;
  const x = (value) => LEFT + (value - from) / (to - from) * (W - LEFT - RIGHT);
  const back = (pixel) => from + (pixel - LEFT) / (W - LEFT - RIGHT) * (to - from);

  function build() {
    const focused = handles ? handles.findIndex((h) => h === document.activeElement) : -1;
    svg.replaceChildren();
    const ends = state.series.flatMap((s) => [s.low, s.low + s.width * s.counts.length])
      .concat(state.marks.flatMap((m) => [m.low, m.high]), state.clip, [0]);
    from = Math.min(...ends); to = Math.max(...ends);
    if (!(to > from)) { from -= 1; to += 1; }
    const room = 0.03 * (to - from); from -= room; to += room;
    // The picture shrinks with the page, its letters do not.
    svg.style.fontSize = `${Math.min(1.8, Math.max(1, W / (root.clientWidth || W)))}em`;
    svg.setAttribute("aria-label", `${state.title}: histogram with two movable limits`);
    picture = make(svg, "g", { role: "img" });
    drawAxes();
    drawSeries();
    shade = [0, 1].map(() => make(picture, "rect",
      { y: TOP, height: H - TOP - BOTTOM, fill: "currentColor", "fill-opacity": 0.14 }));
    ticks = make(picture, "path", { stroke: "currentColor", "stroke-width": 0.7, fill: "none" });
    handles = [0, 1].map(handle);
    move();
    if (focused >= 0) handles[focused].focus();
  }

  function drawAxes() {
    const base = H - BOTTOM;
    make(picture, "line", { x1: LEFT, x2: W - RIGHT, y1: base, y2: base, stroke: "currentColor" });
    for (const tick of niceTicks(from, to)) {
      make(picture, "line", { x1: x(tick), x2: x(tick), y1: TOP, y2: base, stroke: "#80808055" });
      make(picture, "text", { x: x(tick), y: base + 3, dy: "1.1em", "text-anchor": "middle" }, short(tick));
    }
    make(picture, "text", { x: (LEFT + W - RIGHT) / 2, y: H - 8, "text-anchor": "middle" },
      state.unit);
    make(picture, "text", { transform: `translate(13 ${(TOP + base) / 2}) rotate(-90)`,
      "text-anchor": "middle" }, state.log ? "share of values, log" : "share of values");
  }

  function drawSeries() {
    const base = H - BOTTOM, tall = base - TOP - 30;
    const shares = state.series.map((s) => bars(s, from, to));
    const most = Math.max(...shares.map((s) => Math.max(...s)));
    const least = 1e-6;
    const height = (share) => share <= 0 ? 0 : state.log
      ? tall * Math.max(0, Math.log(share / least) / Math.log(most / least)) : tall * share / most;
    const wide = (W - LEFT - RIGHT) / BARS;
    for (const tick of state.log ? [1e-5, 1e-4, 1e-3, 1e-2, 1e-1] : [most / 2, most]) {
      if (tick > most * 1.001) continue;
      const label = state.log ? tick.toExponential(0) : `${(100 * tick).toPrecision(2)} %`;
      make(picture, "text", { x: LEFT - 4, y: base - height(tick) + 4, "text-anchor": "end" },
        label);
    }
    shares.forEach((share, turn) => {
      const s = state.series[turn];
      let path = `M${LEFT} ${base}`;
      share.forEach((value, i) => {
        const top = base - height(value);
        path += `L${(LEFT + i * wide).toFixed(1)} ${top.toFixed(1)}` +
          `L${(LEFT + (i + 1) * wide).toFixed(1)} ${top.toFixed(1)}`;
      });
      make(picture, "path", { d: `${path}L${W - RIGHT} ${base}Z`, stroke: s.colour,
        "stroke-width": turn ? 1.4 : 0.5, fill: turn ? "none" : s.colour, "fill-opacity": 0.35 });
    });
    let at = LEFT + 4;
    for (const s of state.series) {
      make(picture, "rect", { x: at, y: 8, width: 10, height: 10, fill: s.colour });
      const text = make(picture, "text", { x: at + 14, y: 17 }, s.name);
      at += 24 + Math.max(text.getComputedTextLength(), 6.2 * s.name.length);
    }
    state.marks.forEach((m, row) => {
      const y = TOP + 10 + 7 * row;
      const d = `M${x(m.low)} ${y - 3}v6M${x(m.low)} ${y}H${x(m.high)}M${x(m.high)} ${y - 3}v6`;
      const line = make(picture, "path", { d, stroke: m.colour, "stroke-width": 1.6, fill: "none" });
      make(line, "title", {}, `stored in ${m.name}: ${short(m.low)} to ${short(m.high)}`);
    });
  }

  function handle(which) {
    const node = make(svg, "g", { tabindex: 0, role: "slider", class: `qi-hist-handle${which}`,
      "aria-label": which ? "upper limit of the range" : "lower limit of the range",
      style: "cursor:ew-resize;outline-offset:2px" });
    make(node, "rect", { x: -9, y: TOP, width: 18, height: H - TOP - BOTTOM, fill: "transparent" });
    make(node, "line", { y1: TOP, y2: H - BOTTOM, stroke: "currentColor", "stroke-width": 2 });
    make(node, "rect", { x: -5, y: (H - BOTTOM + TOP) / 2 - 11, width: 10, height: 22, rx: 3,
      fill: "#888", stroke: "currentColor", "stroke-width": 1.5 });
    node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      node.focus();
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      if (!node.hasPointerCapture(event.pointerId)) return;
      const box = svg.getBoundingClientRect();
      change(which, back((event.clientX - box.left) / box.width * W));
    });
    return node;
  }

  // On the window, because JupyterLab takes arrow keys on the document to move between cells.
  function onKey(event) {
    const which = handles.indexOf(event.target);
    if (which < 0) return;
    const one = (to - from) / 200;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
      PageDown: -10, PageUp: 10 }[event.key];
    let value = state.clip[which];
    if (steps !== undefined) value += steps * one;
    else if (event.key === "Home") value = which ? 0 : from;
    else if (event.key === "End") value = which ? to : 0;
    else return;
    event.preventDefault();
    event.stopPropagation();
    change(which, value);
  }

  function change(which, value) {
    const clip = [...state.clip];
    clip[which] = which ? Math.min(to, Math.max(0, value)) : Math.max(from, Math.min(0, value));
    if (state.symmetric) clip[1 - which] = -clip[which];
    state.clip = clip;
    move();
    onClip(clip);
  }

  function move() {
    const found = effect(state.series[0], state.clip[0], state.clip[1], state.bits,
      state.symmetric);
    const left = Math.max(LEFT, x(state.clip[0])), right = Math.min(W - RIGHT, x(state.clip[1]));
    shade[0].setAttribute("x", LEFT);
    shade[0].setAttribute("width", left - LEFT);
    shade[1].setAttribute("x", right);
    shade[1].setAttribute("width", W - RIGHT - right);
    let d = "";
    // Every 2**k-th level, so that they stay apart.
    let every = 1;
    while ((found.qhigh - found.qlow) / every > 90) every *= 2;
    for (let q = found.qlow; q <= found.qhigh; q++) {
      const at = x((q - found.zero) * found.step);
      if ((q - found.zero) % every === 0 && at >= LEFT && at <= W - RIGHT)
        d += `M${at.toFixed(1)} ${H - BOTTOM}v6`;
    }
    ticks.setAttribute("d", d);
    handles.forEach((node, which) => {
      node.setAttribute("transform", `translate(${which ? right : left} 0)`);
      node.setAttribute("aria-valuemin", which ? 0 : from);
      node.setAttribute("aria-valuemax", which ? to : 0);
      node.setAttribute("aria-valuenow", state.clip[which]);
      node.setAttribute("aria-valuetext", short(state.clip[which]));
    });
    const text = sentence(found, state.bits);
    said.textContent = text;
    picture.setAttribute("aria-label", `${state.title}. ${text}`);
  }

  build();
  window.addEventListener("keydown", onKey, true);
  return {
    remove() { window.removeEventListener("keydown", onKey, true); root.remove(); },
    update(next) { state = { ...state, ...next }; build(); },
  };
}

const KEYS = ["series", "marks", "clip", "bits", "symmetric", "log", "title", "unit"];

function render({ model, el }) {
  const state = () => Object.fromEntries(KEYS.map((key) => [key, model.get(key)]));
  let own = null;
  const view = mount(el, state(), (clip) => {
    own = clip;
    model.set("clip", clip);
    model.save_changes();
  });
  const others = watch(model, KEYS.filter((key) => key !== "clip"), () => view.update(state()));
  const clipped = () => { if (model.get("clip") !== own) others.later(); };
  model.on("change:clip", clipped);
  return () => { others.stop(); model.off("change:clip", clipped); view.remove(); };
}

export default { render };
