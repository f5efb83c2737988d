import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// Three islands, stable file names, no eval and no injected <style>: the pages that load them run under
// `Content-Security-Policy: default-src 'self'`. Shared styles are @import-ed by each entry's CSS, so that
// every page needs exactly one stylesheet beside tokens.css.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    outDir: here("../flowbuilder/static/flowbuilder/islands"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: true,
    assetsInlineLimit: 0,
    rolldownOptions: {
      input: {
        builder: here("src/builder/main.tsx"),
        execution: here("src/execution/main.tsx"),
        monitor: here("src/monitor/main.tsx"),
      },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: (chunk) => (chunk.name.startsWith("chunk-") ? "[name].js" : "chunk-[name].js"),
        assetFileNames: "[name][extname]",
        codeSplitting: {
          groups: [
            { name: "chunk-react", test: /node_modules[\\/](react|react-dom|scheduler)[\\/]/, priority: 2 },
            { name: "chunk-flow", test: /node_modules[\\/](@xyflow|@dagrejs|d3-[a-z]+|zustand|classcat|use-sync-external-store)[\\/]/, priority: 2 },
            { name: "chunk-shared", minShareCount: 2, priority: 1 },
          ],
        },
      },
    },
  },
  test: {
    environment: "jsdom",
    setupFiles: ["src/testing/setup.ts"],
    include: ["src/**/*.test.{ts,tsx}"],
    restoreMocks: true,
    unstubGlobals: true,
    testTimeout: 60_000, // a machine with other work to do is ten times slower
  },
});
