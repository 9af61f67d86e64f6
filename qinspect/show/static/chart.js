// Bars or ranges of layers (or channels) side by side: hover names one, a click or an arrow key
// chooses it, the wheel, a drag or + and - look closer.  Names are put in as text only.

const HIGH = 200, LEFT = 62, RIGHT = 12, TOP = 26;
// Room for names below: level, or slanted.
const LEVEL = 24, SLANTED = 74, LONGEST = 16;

function short(value) {
  return value === 0 ? "0" : String(Number(value.toPrecision(3)));
}

function elided(name) {
  return name.length <= LONGEST ? name : `${name.slice(0, 7)}…${name.slice(-8)}`;
}

function niceTicks(from, to) {
  const raw = (to - from) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let k = Math.ceil(from / step); k * step <= to; k++) ticks.push(k * step);
  return ticks;
}

// What is said of one item, on hover and by screen readers.
export function words(state, at) {
  const told = state.series.filter((s) => s.text[at]).map((s) => `${s.name} ${s.text[at]}`);
  const name = state.what === "layer" ? state.names[at] : `${state.what} ${state.names[at]}`;
  return `${name}: ${told.join("; ") || "no number"}`;
}

// The part that is looked at, `by` times as wide around an item and never outside all of them.
export function zoomed([first, last], total, around, by) {
  const wide = Math.min(total, Math.max(4, Math.round((last - first) * by)));
  const share = last > first ? (around - first) / (last - first) : 0.5;
  const start = Math.min(total - wide, Math.max(0, Math.round(around - share * wide)));
  return [start, start + wide];
}

// state: names, series [{name, colour, low, high, text}] with null where there is no number, chosen,
// passing (empty: all), limit (or null), title, unit, what.  onChoose(at) when a person chooses.
export function mount(el, state, onChoose) {
  const root = document.createElement("div");
  root.className = "qi-chart";
  root.style.cssText = "color:var(--jp-content-font-color1, inherit);font:12px sans-serif";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "slider");
  svg.style.cssText = "width:100%;display:block;fill:currentColor;touch-action:pan-y;cursor:pointer";
  const told = document.createElement("p");
  told.className = "qi-chart-told";
  told.style.cssText = "margin:2px 0;line-height:1.4;min-height:1.4em";
  const help = document.createElement("p");
  help.textContent = "Click, or focus and use the arrow keys, to choose; drag over a part, use the " +
    "wheel once focused, or + and -, to look closer; 0 or a double click shows all.";
  help.style.cssText = "margin:2px 0;opacity:.8";
  root.append(svg, told, help);
  el.appendChild(root);

  let wide = 720, shown = [0, state.names.length], hovered = -1, mark, hover, brush, from = null;
  const total = () => state.names.length;
  const each = () => (wide - LEFT - RIGHT) / Math.max(1, shown[1] - shown[0]);
  const place = (at) => LEFT + (at - shown[0]) * each();
  const at = (event) => {
    const x = event.clientX - svg.getBoundingClientRect().left;
    const found = shown[0] + Math.floor((x - LEFT) / each());
    return x >= LEFT && x <= wide - RIGHT && found < shown[1] ? found : -1;
  };

  function extent() {
    let low = 0, high = 0;
    for (const s of state.series)
      for (let i = shown[0]; i < shown[1]; i++) {
        if (s.low[i] !== null) low = Math.min(low, s.low[i]);
        if (s.high[i] !== null) high = Math.max(high, s.high[i]);
      }
    if (state.limit !== null) high = Math.max(high, state.limit);
    return high > low ? [low, high] : [low, low + 1];
  }

  const level = () => state.names.every(
    (name) => each() > 7 * Math.min(LONGEST, name.length) + 6);

  function build() {
    const tall = HIGH + TOP + (level() ? LEVEL : SLANTED);
    svg.replaceChildren();
    svg.setAttribute("height", tall);
    svg.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    svg.setAttribute("aria-label", `${state.title}: choose a ${state.what}`);
    const [low, high] = extent();
    const y = (value) => TOP + (high - value) / (high - low) * HIGH;
    for (const tick of niceTicks(low, high)) {
      make(svg, "line", { x1: LEFT, x2: wide - RIGHT, y1: y(tick), y2: y(tick), stroke: "#80808055" });
      make(svg, "text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, short(tick));
    }
    make(svg, "text", { transform: `translate(13 ${TOP + HIGH / 2}) rotate(-90)`,
      "text-anchor": "middle" }, state.unit);
    hover = make(svg, "rect", { y: TOP, height: HIGH, fill: "currentColor", "fill-opacity": 0 });
    mark = make(svg, "rect", { class: "qi-chart-chosen", y: TOP - 3, height: HIGH + 6,
      fill: "currentColor", "fill-opacity": 0.1, stroke: "currentColor", "stroke-width": 1.5 });
    drawSeries(y);
    if (state.limit !== null)
      make(svg, "line", { x1: LEFT, x2: wide - RIGHT, y1: y(state.limit), y2: y(state.limit),
        stroke: "currentColor", "stroke-dasharray": "5 4" });
    drawNames();
    brush = make(svg, "rect", { y: TOP, height: HIGH, width: 0, fill: "#56B4E9", "fill-opacity": 0.3 });
    drawLegend();
    move();
  }

  function drawSeries(y) {
    const room = 0.8 * each() / Math.max(1, state.series.length);
    state.series.forEach((s, turn) => {
      const paths = ["", ""];
      for (let i = shown[0]; i < shown[1]; i++) {
        if (s.low[i] === null || s.high[i] === null) continue;
        const x = place(i) + 0.1 * each() + turn * room;
        const top = y(s.high[i]), tall = Math.max(1, y(s.low[i]) - top);
        const faded = state.passing.length > 0 && !state.passing[i];
        paths[Number(faded)] += `M${x.toFixed(1)} ${top.toFixed(1)}h${Math.max(0.7, room - 1).toFixed(1)}` +
          `v${tall.toFixed(1)}h${(-Math.max(0.7, room - 1)).toFixed(1)}Z`;
      }
      paths.forEach((d, faded) => make(svg, "path",
        { d, fill: s.colour, "fill-opacity": faded ? 0.2 : 0.9 }));
    });
  }

  function drawNames() {
    const every = Math.ceil(16 / each()), flat = level();
    for (let i = shown[0]; i < shown[1]; i++) {
      if ((i - shown[0]) % every) continue;
      const x = place(i) + each() / 2, y = TOP + HIGH + 12;
      make(svg, "text", flat ? { x, y: y + 3, "text-anchor": "middle" }
        : { transform: `translate(${x + 4} ${y}) rotate(-35)`, "text-anchor": "end" },
        elided(state.names[i]));
    }
  }

  function drawLegend() {
    let x = LEFT;
    for (const s of state.series) {
      make(svg, "rect", { x, y: 5, width: 10, height: 10, fill: s.colour });
      const text = make(svg, "text", { x: x + 14, y: 14 }, s.name);
      x += 28 + Math.max(text.getComputedTextLength(), 6.2 * s.name.length);
    }
  }

  function move() {
    const there = state.chosen >= shown[0] && state.chosen < shown[1];
    mark.setAttribute("visibility", there ? "visible" : "hidden");
    if (there) {
      mark.setAttribute("x", place(state.chosen));
      mark.setAttribute("width", each());
    }
    const inside = hovered >= shown[0] && hovered < shown[1];
    hover.setAttribute("fill-opacity", inside ? 0.12 : 0);
    if (inside) {
      hover.setAttribute("x", place(hovered));
      hover.setAttribute("width", each());
    }
    const one = inside ? hovered : state.chosen;
    const part = shown[1] - shown[0] < total() ? ` (${shown[0] + 1} to ${shown[1]} of ${total()} shown)` : "";
    told.textContent = (one >= 0 && one < total() ? words(state, one) : `No ${state.what} is chosen`) + part;
    svg.setAttribute("aria-valuemin", total() ? 1 : 0);
    svg.setAttribute("aria-valuemax", total());
    svg.setAttribute("aria-valuenow", state.chosen + 1);
    svg.setAttribute("aria-valuetext", state.chosen >= 0 && state.chosen < total()
      ? `${words(state, state.chosen)}, ${state.chosen + 1} of ${total()}` : "none");
  }

  function choose(next) {
    if (next < 0 || next >= total() || next === state.chosen) return;
    state.chosen = next;
    if (next < shown[0] || next >= shown[1]) {
      const width = shown[1] - shown[0];
      const start = Math.min(total() - width, Math.max(0, next - (width >> 1)));
      look([start, start + width]);
    }
    move();
    onChoose(next);
  }

  function look(part) {
    shown = part;
    build();
  }

  // On the window, because JupyterLab takes arrow keys on the document to move between cells.
  function onKey(event) {
    if (event.target !== svg || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
      PageDown: -10, PageUp: 10 }[event.key];
    const around = Math.max(state.chosen, shown[0]);
    if (steps !== undefined) choose(Math.min(total() - 1, Math.max(0, state.chosen + steps)));
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(total() - 1);
    else if (event.key === "+" || event.key === "=") look(zoomed(shown, total(), around, 0.5));
    else if (event.key === "-") look(zoomed(shown, total(), around, 2));
    else if (event.key === "0") look([0, total()]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  svg.addEventListener("pointerdown", (event) => {
    svg.focus();
    from = { x: event.clientX, at: at(event) };
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    hovered = at(event);
    move();
    if (from === null || from.at < 0) return;
    const left = svg.getBoundingClientRect().left;
    const ends = [from.x - left, event.clientX - left].map(
      (x) => Math.min(wide - RIGHT, Math.max(LEFT, x))).sort((a, b) => a - b);
    brush.setAttribute("x", ends[0]);
    brush.setAttribute("width", ends[1] - ends[0]);
  });
  svg.addEventListener("pointerup", (event) => {
    const began = from, ended = at(event);
    from = null;
    brush.setAttribute("width", 0);
    if (began === null || began.at < 0 || ended < 0) return;
    if (Math.abs(event.clientX - began.x) < 6) choose(ended);
    else if (began.at !== ended)
      look([Math.min(began.at, ended), Math.max(began.at, ended) + 1]);
  });
  svg.addEventListener("pointerleave", () => { hovered = -1; move(); });
  svg.addEventListener("dblclick", () => look([0, total()]));
  svg.addEventListener("wheel", (event) => {
    // Without the focus the page scrolls.
    if (document.activeElement !== svg) return;
    event.preventDefault();
    const around = at(event);
    look(zoomed(shown, total(), around < 0 ? shown[0] : around, event.deltaY < 0 ? 0.7 : 1.4));
  }, { passive: false });

  const resized = new ResizeObserver(() => {
    const now = Math.round(svg.getBoundingClientRect().width);
    if (now > LEFT + RIGHT && now !== wide) { wide = now; build(); }
  });
  resized.observe(root);
  build();
  window.addEventListener("keydown", onKey, true);
  return {
    remove() { resized.disconnect(); window.removeEventListener("keydown", onKey, true); root.remove(); },
    update(next) {
      const other = next.names.join("\n") !== state.names.join("\n");
      state = { ...state, ...next };
      if (other) shown = [0, total()];
      build();
    },
    choose(next) { state.chosen = next; move(); },
  };
}

const KEYS = ["names", "series", "chosen", "passing", "limit", "title", "unit", "what"];

function render({ model, el }) {
  const state = () => Object.fromEntries(KEYS.map((key) => [key, model.get(key)]));
  const view = mount(el, state(), (at) => {
    model.set("chosen", at);
    model.save_changes();
  });
  const others = watch(model, KEYS.filter((key) => key !== "chosen"), () => view.update(state()));
  const chosen = () => view.choose(model.get("chosen"));
  model.on("change:chosen", chosen);
  return () => {
    others.stop();
    model.off("change:chosen", chosen);
    view.remove();
  };
}

export default { render };
