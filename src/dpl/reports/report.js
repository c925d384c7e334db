// The epoch slider: redraws both heatmaps from the embedded values (tenths of the unit, layer by layer).
(() => {
  const slider = document.getElementById("epoch");
  if (!slider) return; // no search, or a single epoch
  const data = JSON.parse(document.getElementById("search-history").textContent);
  const shown = document.getElementById("epoch-shown");
  const draw = () => {
    const at = Number(slider.value);
    const darkest = data.darkest[at];
    for (const branch of ["image", "text"]) {
      const values = data[branch].values[at];
      const outlined = data[branch].outlined[at];
      document.querySelectorAll(`#heat-${branch} .cell`).forEach((cell, index) => {
        const value = values[index];
        const [title, , rect, text] = cell.children;
        const label = title.textContent;
        title.textContent = `${label.slice(0, label.lastIndexOf(":"))}: ${(value / 10).toFixed(1)} ${data.unit}`;
        rect.setAttribute("fill-opacity", value / darkest);
        text.textContent = value >= 10 ? Math.floor((value + 5) / 10) : "";
        cell.classList.toggle("strong", 1000 * value >= data.strong * darkest);
        cell.classList.toggle("chosen", outlined[index] === "1");
      });
    }
    shown.textContent = data.epochs[at];
    slider.setAttribute("aria-valuetext", `after epoch ${data.epochs[at]}`);
  };
  slider.addEventListener("input", draw);
  document.documentElement.classList.add("scripted");
})();
