"use strict";
// Runs before anything is drawn: who chose a theme must not see the other one first.
(function () {
  try {
    const chosen = localStorage.getItem("kernelproof-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (_) {
    // Storage may be refused: then the system's choice holds.
  }
})();
