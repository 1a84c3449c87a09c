// Triangles on a canvas by WebGL 2, all of a picture in one call.

import { FLOATS, type Triangles } from "./triangles";

// Not every browser counts these as a "major performance caveat".
const IN_SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;
const SAMPLES = 8; // of a dot of the screen, where the GPU has as many: edges are smooth
// A later shape is nearer. What lies as far as the shape itself is not drawn again: where the lines of
// one shape cross, the picture is no darker.
const VERTEX = `#version 300 es
uniform vec3 size;
layout(location = 0) in vec3 at;
layout(location = 1) in vec4 rgba;
out vec4 color;
void main() {
  gl_Position = vec4(2.0 * at.x / size.x - 1.0, 1.0 - 2.0 * at.y / size.y, 1.0 - 2.0 * at.z / size.z, 1.0);
  color = rgba;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 color;
out vec4 seen;
void main() { seen = color; }`;

export class WebGl {
  private readonly size: WebGLUniformLocation;
  private readonly smooth: WebGLFramebuffer; // has several samples of a dot
  private readonly buffers: [WebGLRenderbuffer, WebGLRenderbuffer]; // its colours and depths
  private width = 0;
  private height = 0;

  /** WebGL on a canvas; null where there is none, or one in software and none is wanted. */
  static on(canvas: HTMLCanvasElement, software: boolean): WebGl | null {
    const gl = canvas.getContext("webgl2", {
      antialias: false,
      depth: false,
      failIfMajorPerformanceCaveat: !software,
    });
    if (!gl || gl.isContextLost()) return null;
    const named = gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = String(gl.getParameter(named?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER));
    return software || !IN_SOFTWARE.test(renderer) ? new WebGl(canvas, gl, renderer) : null;
  }

  private constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly gl: WebGL2RenderingContext,
    readonly renderer: string,
  ) {
    // 1. The program.
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ] as const) {
      const shader = gl.createShader(kind)!;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.size = gl.getUniformLocation(program, "size")!;
    // 2. Vertices, as `Triangles` writes them.
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 4 * FLOATS, 0);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 4 * FLOATS, 12);
    // 3. A picture with several samples of a dot.
    this.smooth = gl.createFramebuffer();
    this.buffers = [gl.createRenderbuffer(), gl.createRenderbuffer()];
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.smooth);
    [gl.COLOR_ATTACHMENT0, gl.DEPTH_ATTACHMENT].forEach((place, i) => {
      gl.bindRenderbuffer(gl.RENDERBUFFER, this.buffers[i]!);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, place, gl.RENDERBUFFER, this.buffers[i]!);
    });
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LESS);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Draw on a canvas of so many pixels. */
  show(triangles: Triangles, width: number, height: number): void {
    const { gl, canvas } = this;
    this.resize(Math.round(width * triangles.density), Math.round(height * triangles.density));
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.smooth);
    gl.viewport(0, 0, this.width, this.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform3f(this.size, width, height, triangles.shapes + 1);
    const { vertices } = triangles;
    gl.bufferData(gl.ARRAY_BUFFER, vertices, gl.STREAM_DRAW);
    gl.drawArrays(gl.TRIANGLES, 0, vertices.length / FLOATS);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.smooth);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    const [w, h] = [canvas.width, canvas.height];
    gl.blitFramebuffer(0, 0, w, h, 0, 0, w, h, gl.COLOR_BUFFER_BIT, gl.NEAREST);
  }

  private resize(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    const { gl, canvas } = this;
    [this.width, this.height] = [width, height];
    [canvas.width, canvas.height] = [width, height];
    const formats = [gl.RGBA8, gl.DEPTH_COMPONENT24];
    const most = (format: number): number =>
      gl.getInternalformatParameter(gl.RENDERBUFFER, format, gl.SAMPLES)[0] ?? 0;
    const samples = Math.min(SAMPLES, ...formats.map(most));
    formats.forEach((format, i) => {
      gl.bindRenderbuffer(gl.RENDERBUFFER, this.buffers[i]!);
      gl.renderbufferStorageMultisample(gl.RENDERBUFFER, samples, format, width, height);
    });
  }
}
