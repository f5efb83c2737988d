import { Dialog } from "./Dialog";

const KEYS: [string, [string, string][]][] = [
  [
    "Build",
    [
      ["Tab or N", "Add a step (on the canvas)"],
      ["C", "Connect the selected step"],
      ["Enter", "Edit the selected step"],
      ["Esc", "Back to the canvas"],
      ["Arrow keys", "Go to the next step; move it when it has the focus"],
      ["Shift T", "Tidy up"],
    ],
  ],
  [
    "Edit",
    [
      ["Ctrl Z", "Undo"],
      ["Ctrl Shift Z", "Redo"],
      ["Ctrl C, Ctrl X, Ctrl V", "Copy, cut, paste"],
      ["Ctrl D", "Duplicate"],
      ["Ctrl A", "Select all"],
      ["Delete", "Remove what is selected"],
    ],
  ],
  [
    "Workflow",
    [
      ["Ctrl S", "Save as a new version"],
      ["Ctrl Enter", "Save and run"],
      ["F6", "Next area: steps, canvas, properties, toolbar"],
      ["?", "This list"],
    ],
  ],
];

export function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose} wide>
      <div className="fb-shortcuts">
        {KEYS.map(([group, rows]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {rows.map(([keys, what]) => (
                <div key={keys}>
                  <dt>
                    {keys.split(/(, | or )/).map((part, index) =>
                      index % 2 === 1 ? (
                        <span key={index}>{part}</span>
                      ) : (
                        part.split(" ").map((key) => <kbd key={key}>{key}</kbd>)
                      ),
                    )}
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
