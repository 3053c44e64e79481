// As much of onnxruntime-web as the page uses; its own types come with the package.
export const env: {
  logLevel: string;
  wasm: { numThreads: number; wasmPaths: { mjs: string }; wasmBinary: ArrayBuffer };
};
export class Tensor {
  constructor(type: "uint8" | "float32", data: Uint8Array | Float32Array, dims: number[]);
  readonly data: any;
  readonly dims: number[];
}
export class InferenceSession {
  static create(model: Uint8Array, options: object): Promise<InferenceSession>;
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}
