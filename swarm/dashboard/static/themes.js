/** The button that goes round: as the system has it, light, dark. */

const NEXT = { auto: "light", light: "dark", dark: "auto" };

export function startTheme(button) {
  const root = document.documentElement;
  const tell = () => {
    const theme = root.dataset.theme ?? "auto";
    button.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[theme];
    button.setAttribute("aria-label", `Theme: ${theme}. Change to ${NEXT[theme]}`);
    document.dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    const theme = NEXT[root.dataset.theme ?? "auto"];
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Storage is switched off: the choice lasts as long as the page.
    }
    tell();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  tell();
}
