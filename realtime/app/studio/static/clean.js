// The picture alone, on nothing, as large as the window: for OBS's browser source.
import { showPicture } from "./picture.js";

showPicture(document.getElementById("picture"), { alpha: true });
