// The only file that imports ComfyUI. Everything else gets what it needs handed over, and can be loaded
// without doing anything.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { createExtension } from "./extension.js";

app.registerExtension(createExtension({ api }));
