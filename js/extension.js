// What ComfyUI's page calls when something happens to our nodes.
import { createClient } from "./client.js";
import { attachPreviews } from "./lora_previews.js";
import { attachWildcardPreview } from "./wildcard_preview.js";

const WITH_PREVIEWS = new Set(["LunaLoRAStacker", "LunaLoRAStackerRandom"]);

/** @param {{api: {fetchApi(route: string): Promise<Response>}}} comfy */
export function createExtension({ api }) {
  const client = createClient(api);
  return {
    name: "luna.collection",
    init() {
      const style = document.createElement("link");
      style.rel = "stylesheet";
      style.href = new URL("./css/luna.css", import.meta.url).href;
      document.head.append(style);
    },
    nodeCreated(node) {
      if (WITH_PREVIEWS.has(node.comfyClass)) {
        attachPreviews(node, client);
      }
      if (node.comfyClass === "LunaWildcardBuilder") {
        attachWildcardPreview(node, client);
      }
    },
  };
}
