// The epoch slider: redraws both alpha heatmaps from the embedded probabilities (permille, layer by layer).
(() => {
  const slider = document.getElementById("epoch");
  if (!slider) return; // no search, or a single epoch
  const data = JSON.parse(document.getElementById("alpha-history").textContent);
  const shown = document.getElementById("epoch-shown");
  const draw = () => {
    const at = Number(slider.value);
    for (const branch of ["image", "text"]) {
      const shares = data[branch].shares[at];
      const chosen = data[branch].chosen[at];
      document.querySelectorAll(`#heat-${branch} .cell`).forEach((cell, index) => {
        const layer = Math.floor(index / data.options.length);
        const option = index % data.options.length;
        const share = shares[index];
        const [title, , rect, text] = cell.children;
        const label = title.textContent;
        title.textContent = `${label.slice(0, label.lastIndexOf(":"))}: ${(share / 10).toFixed(1)} %`;
        rect.setAttribute("fill-opacity", share / 1000);
        text.textContent = share >= 10 ? Math.floor((share + 5) / 10) : "";
        cell.classList.toggle("strong", share >= data.strong);
        cell.classList.toggle("chosen", option === chosen[layer]);
      });
    }
    shown.textContent = data.epochs[at];
    slider.setAttribute("aria-valuetext", `after epoch ${data.epochs[at]}`);
  };
  slider.addEventListener("input", draw);
  document.documentElement.classList.add("scripted");
})();
