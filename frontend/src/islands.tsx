/** Find the places where an island belongs and render it with the JSON that the page put beside it. */

import { Component, StrictMode, type ComponentType, type ErrorInfo, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override componentDidCatch(error: Error, info: ErrorInfo) {
    console.error(error, info.componentStack);
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div className="fb fb-crash" role="alert">
        <h2>This part of the page stopped working</h2>
        <p>{this.state.error.message}</p>
        <button type="button" className="fb-btn fb-btn-primary" onClick={() => location.reload()}>
          Reload the page
        </button>
      </div>
    );
  }
}

/** Render `Island` into every `<div data-island="name">` of the page. */
export function mountIslands<Props extends object>(name: string, Island: ComponentType<Props>): void {
  for (const place of document.querySelectorAll<HTMLElement>(`[data-island="${name}"]`)) {
    const source = document.getElementById(place.dataset.props ?? `${name}-props`);
    const props = JSON.parse(source?.textContent || "{}") as Props;
    createRoot(place).render(
      <StrictMode>
        <Boundary>
          <Island {...props} />
        </Boundary>
      </StrictMode>,
    );
  }
}

/** Return the page of an execution: `template` holds `{id}`. */
export function pageOf(template: string, id: string): string {
  return template.replace("{id}", encodeURIComponent(id));
}
