// Every figure that the page has numbers for, drawn in its place, and again when the colours or the width change.
const FIGURES = { course, distribution, share, harm, heat, arms };

const draw = () => {
  while (charts.length) charts.pop()[0].destroy();
  for (const [name, figure] of Object.entries(FIGURES)) {
    const place = document.getElementById(name);
    if (!place || !D[name]) continue;
    place.replaceChildren();
    figure(place);
  }
};
draw();

let width = innerWidth;
let waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's bars come and go
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(() => charts.forEach(([u, place, height]) => u.setSize({ width: widthOf(place), height })), 120);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => (root.classList.add("paper"), draw()));
addEventListener("afterprint", () => (root.classList.remove("paper"), draw()));
