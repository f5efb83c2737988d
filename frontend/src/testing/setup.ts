/** What browsers have and jsdom lacks; there is no layout, so nothing ever changes its size. */

class ResizeObserver {
  observe(): void {}
  disconnect(): void {}
}

globalThis.ResizeObserver ??= ResizeObserver as never;
window.matchMedia ??= (() => ({ matches: true })) as never;
Element.prototype.scrollTo ??= function (this: Element, options?: ScrollToOptions | number) {
  this.scrollTop = (options as ScrollToOptions).top ?? 0;
} as never;

export {};
