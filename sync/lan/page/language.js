// The language of a page: that of the browser until a person chooses another.
import { texts } from "./texts.js";

export const $ = (id) => document.getElementById(id);

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh-CN" : "en");

export const t = () => texts[language];
export const locale = () => language;

// speak writes all fixed texts, calls show for the others, and does so again
// whenever the language is changed.
export function speak(show) {
  const write = () => {
    document.documentElement.lang = language;
    for (const e of document.querySelectorAll("[data-text]")) e.textContent = e.dataset.text.split(".").reduce((o, key) => o[key], t());
    $("language").textContent = language === "en" ? "中文" : "English";
    $("language").lang = language === "en" ? "zh-CN" : "en";
    show();
  };
  $("language").addEventListener("click", () => {
    language = language === "en" ? "zh-CN" : "en";
    localStorage.setItem("language", language);
    write();
  });
  write();
}
