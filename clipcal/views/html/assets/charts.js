// A place on the page -> a chart in it, with its key above it and below it what is under the cursor.
const charts = [];
const widthOf = (place) => Math.max(Math.floor(place.clientWidth), 200);
const isNarrow = (place) => place.clientWidth < 560;

const plot = (place, options, data, now) => {
  const box = element("div");
  place.append(box);
  const cursor = { points: { size: 7, fill: colour("ground") }, ...options.cursor };
  const given = { width: widthOf(place), legend: { show: false }, padding: [8, 10, 0, 0], ...options, cursor };
  charts.push([new uPlot(given, data, box), place, options.height]);
  if (now) place.append(now);
};

// What the colours of a chart stand for: [colour, words, kind of mark].
const key = (items) => {
  const box = element("div", "key");
  for (const [name, words, kind] of items) {
    const item = element("span");
    const mark = element("i", kind || "");
    mark.style.background = name.startsWith("#") || name.startsWith("rgb") ? name : colour(name);
    item.append(mark, words);
    box.append(item);
  }
  return box;
};

// Writes a sentence about the point under the cursor.
const teller = (now, say) => (u) => (now.textContent = u.cursor.idx == null ? "" : say(u.cursor.idx));
