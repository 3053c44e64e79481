"""The programs that run on the graphics card, or on Mesa's llvmpipe where there is none."""

#: Kinds of surfaces, as the shader knows them.
SKIN, EYE, WET, CLOTH, HAIR, FINE, FUR, HARD, LENS, INK = range(10)

#: Part kind -> kind of surface.
SURFACE = {
    "skin": SKIN,
    "eye": EYE,
    "teeth": WET,
    "tongue": WET,
    "cloth": CLOTH,
    "hat": CLOTH,
    "hair": HAIR,
    "strands": HAIR,
    "lash": FINE,
    "fur": FUR,
    "glasses": HARD,
    "phones": HARD,
    "ring": HARD,
    "hand": SKIN,
    "microphone": HARD,
    "lens": LENS,
}

PICTURE_VERTEX = """#version 330
in vec3 place; in vec3 normal; in vec2 uv; in vec4 more; in vec3 rest; in vec3 home;
out vec3 P; out vec3 N; out vec2 T; out vec4 M; out vec3 R; out vec3 H;
uniform mat4 camera; uniform float grow;
void main() {
  // Lines of ink leave eyes and nose alone: round large eyes they would be glasses.
  vec2 at_eye = vec2(abs(home.x) - .31, home.y - 7.29) / vec2(.42, .42), at_nose = vec2(home.x, home.y - 7.02) / vec2(.26, .24);
  vec2 at_face = vec2(home.x, home.y - 7.08) / vec2(.62, .66);
  float plain = step(.8, home.z) * max(1 - dot(at_face, at_face), max(1 - dot(at_eye, at_eye), 1 - dot(at_nose, at_nose)));
  P = place + normal * grow * (1 - smoothstep(0., .25, plain)); N = normal; T = uv; M = more; R = rest; H = home;
  gl_Position = camera * vec4(P, 1.0);
}
"""

# Light is computed in linear colours and leaves through the camera's curve, premultiplied by alpha. The second output is the head's and its hair's share: (head, hair, -, alpha).
# One program for each kind of surface: llvmpipe computes both sides of every `if`.
PICTURE_FRAGMENT = """#version 330
#define KIND %(kind)d
#define CEL %(cel)d
in vec3 P; in vec3 N; in vec2 T; in vec4 M; in vec3 R; in vec3 H;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 share;
uniform vec3 tint;
#if KIND == 9
void main() {
  // None where space was folded by a change of proportions.
  vec2 at_face = vec2(H.x, H.y - 7.08) / vec2(.58, .62);
  if (H.z > .8 && dot(at_face, at_face) < 1) discard;
  colour = vec4(sqrt(tint), 1); share = vec4(M.z, 0, 0, 1);
}
#else
uniform sampler2D skin; uniform sampler2D over; uniform sampler2D relief; uniform sampler2D grain;
uniform sampler2DShadow shadow;
uniform mat4 light; uniform vec3 sh[9]; uniform vec3 key; uniform vec3 key_colour;
uniform vec3 fill; uniform vec3 fill_colour; uniform vec3 eye;
uniform vec3 tint2; uniform vec4 par; uniform float cut;
uniform vec2 span; uniform vec3 lids[4]; uniform vec4 balls[2]; uniform vec3 fronts[2]; uniform vec4 of_head[2];
uniform vec3 lips[2]; uniform vec4 lip_plane; uniform float opening; uniform vec2 corners;
uniform float gloss; uniform float textured; uniform int pattern; uniform float pattern_scale; uniform vec3 hue;
uniform vec3 flat_colour; uniform float flatness; uniform vec3 shade; uniform float exposure;

#if KIND == 4
#define HAIRY 1
#elif KIND == 0 && CEL > 0
#define HAIRY par.w * texture(relief, d0).a * step(M.y, .5) * M.z * inside
#else
#define HAIRY 0
#endif
vec3 tone(vec3 x) {
  // `draw.tone`
  x = max(x, vec3(0)) * exposure; return sqrt(clamp(x * (1 + x / 9) / (1 + x * .55), 0, 1));
}
vec3 around(vec3 n) {
  return max(vec3(0), sh[0]*.282095 + sh[1]*.488603*n.y + sh[2]*.488603*n.z + sh[3]*.488603*n.x
    + sh[4]*1.092548*n.x*n.y + sh[5]*1.092548*n.y*n.z + sh[6]*.315392*(3*n.z*n.z-1)
    + sh[7]*1.092548*n.x*n.z + sh[8]*.546274*(n.x*n.x-n.y*n.y));
}
float lit(vec3 p, vec3 n) {
  vec4 q = light * vec4(p + n * .03, 1); vec3 s = q.xyz * .5 + .5;
#if KIND == 0 || KIND == 3
  return .5 * (texture(shadow, vec3(s.xy + vec2(.0018, .0009), s.z - .004)) + texture(shadow, vec3(s.xy - vec2(.0018, .0009), s.z - .004)));
#else
  return texture(shadow, vec3(s.xy, s.z - .004));
#endif
}
float sharp(float x, float n) {
  // x^n for highlights, where its shape matters less than its cost (Schlick).
  return x / (n - n * x + x);
}
vec3 bumped(vec3 n, float height) {
  // Mikkelsen, Bump Mapping Unparametrized Surfaces on the GPU.
  vec3 dx = dFdx(P), dy = dFdy(P); vec3 r1 = cross(dy, n), r2 = cross(n, dx);
  float det = dot(dx, r1); float hx = dFdx(height), hy = dFdy(height);
  vec3 g = sign(det) * (hx * r1 + hy * r2);
  return normalize(abs(det) * n - g);
}
#if KIND == 0 || KIND == 6
vec2 chart() {
  // `paint.chart`
  float turn = atan(H.x, H.z - mix(.2, .8, clamp((H.y - 6.) / .45, 0, 1)));
  return vec2(.5 + .5 * sin(turn * .5), (H.y - span.x) / (span.y - span.x));
}
#endif
void main() {
  vec3 n = normalize(N), v = normalize(eye - P); if (dot(n, v) < 0) n = -n;
  float facing = dot(n, v);
  float a = 1, ao = M.x, strands = 1, oily = 1; vec3 alb = tint;
#if KIND == 0
  vec4 c = texture(skin, T); alb *= mix(vec3(1), c.rgb * c.rgb, textured);
  alb = mix(alb, flat_colour, flatness);
  vec2 d0 = chart(); float inside = step(0., d0.y) * step(d0.y, 1.);
  vec4 o = texture(over, d0) * inside * step(M.y, .5); float lum = dot(alb, vec3(.333)) / max(par.x, .02);
  alb = alb * (1 - o.a) + o.rgb * o.rgb * mix(1., clamp(lum, .3, 1.6), .45);
  alb = mix(alb, vec3(.12, .022, .02), .85 * M.y);
  vec2 surface = texture(relief, d0).rg;
  n = bumped(n, (surface.r - .5) * .016 * par.z * inside);
  oily = mix(1., surface.g * 2.3, inside);
#elif KIND == 1
  vec3 c = texture(skin, T).rgb; alb = c * c * tint;
  // Lids and lashes shade the ball; towards the inner corner it is red.
  vec2 q = vec2(dot(of_head[0], vec4(P, 1)), dot(of_head[1], vec4(P, 1))); int which = q.x < 0 ? 0 : 1;
  vec3 up = lids[2 * which], low = lids[2 * which + 1]; vec3 xx = vec3(q.x * q.x, q.x, 1);
  float under = dot(up, xx) - q.y, over_ = q.y - dot(low, xx);
  ao = mix(.30, 1., smoothstep(-.012, .060, under)) * mix(.62, 1., smoothstep(-.008, .022, over_));
  alb = mix(alb, alb * vec3(.95, .62, .56), .7 * smoothstep(.028, .004, over_));
  // The cornea bulges before the iris.
  vec3 away = P - balls[which].xyz; float ball = balls[which].w;
  vec3 cornea = normalize(away - .5 * ball * fronts[which]);
  cornea = mix(n, cornea, smoothstep(.80, .88, dot(normalize(away), fronts[which])));
#elif KIND == 2
  vec3 c = texture(skin, T).rgb; alb *= mix(vec3(1), c * c, textured);
  // Lips shade what is between them, and the mouth what is behind them.
  vec2 q = vec2(dot(of_head[0], vec4(P, 1)), dot(of_head[1], vec4(P, 1))); vec3 xx = vec3(q.x * q.x, q.x, 1);
  float under = dot(lips[0], xx) - q.y, over_ = q.y - dot(lips[1], xx), behind = -dot(lip_plane, vec4(P, 1));
  float within = mix(.74, 1., smoothstep(-.03, .05, under)) * mix(.86, 1., smoothstep(-.015, .04, over_)) * mix(.10, 1., min(1., 1.5 * opening / (opening + behind * behind)));
  // Cheeks shade the teeth beside them, of which only slivers are seen at the corners.
  float aside = abs(q.x - corners.x) / corners.y, beside = smoothstep(.92, .52, aside);
  within = mix(1., within * mix(.22, 1., beside), smoothstep(-.04, .04, behind)); ao *= within;
  // What light there is has come from gums, tongue and cheeks.
  alb *= mix(vec3(1., .62, .54), vec3(1), smoothstep(.0, .75, within));
#elif KIND == 3
  vec3 c = mix(vec3(.9), texture(skin, T).rgb, textured); float lum = dot(c, vec3(.333));
  // A texture's hues turn about grey.
  vec3 off = c - lum; vec3 dyed = max(hue.z * lum + hue.x * off + hue.y * cross(vec3(.57735), off), 0);
  vec2 q = R.xy * pattern_scale; vec2 w = fract(q) - .5;
  float second = 0;
  if (pattern == 1) second = step(0., w.y);
  if (pattern == 2) second = step(.12, w.x);
  if (pattern == 3) second = .5 * (step(.05, w.x) + step(.05, w.y));
  if (pattern == 4) second = step(dot(w, w), .07);
  if (pattern == 5) second = smoothstep(-.1, .1, sin(q.x * 2.1 + 2 * sin(q.y * 1.3)) + sin(q.y * 1.9 + 2 * sin(q.x * 1.1)));
  if (pattern == 6) second = step(.5, fract(q.x * .5 + q.y * .5));
  alb = mix(mix(tint, tint2, second) * (.68 + .36 * lum), dyed * dyed, par.x);
#if CEL == 0
  alb *= .9 + .2 * texture(grain, R.xy * 1.7 + R.z).r;
#endif
#elif KIND == 4
  // Brightness, strands, locks, opacity; a stray hair is thin and thinner at its tip.
  // A lock has streaks of its own.
  float side = fract(T.y), which = floor(T.y), streak = .5 + .5 * sin(23 * side + 2.4 * which + 1.5 * T.x);
  float whole = smoothstep(0., .3, min(side, 1 - side)), begin = smoothstep(0., .25, T.x);
  vec4 lock = vec4(.55 + .14 * sin(which * 4.1), .25 + .5 * streak, .5, (.45 + .3 * streak) * whole * mix(1, begin, step(.06, abs(side - .5))) * (1 - T.x * T.x));
  vec4 c = mix(lock, texture(skin, T), textured);
  a = c.a; strands = c.g; float lum = 2 * c.r - 1;
  alb = mix(tint, tint2, smoothstep(.3, -1.2, R.y)) * (1 + .35 * lum) * (.30 + .95 * strands + .42 * c.b);
#if CEL > 0
  alb = mix(mix(tint, tint2, smoothstep(.3, -1.2, R.y)), alb, .35); a = smoothstep(.35, .65, a);
#endif
  // The outline of a head of hair is single hairs: the more, the more it is seen from the side.
  a *= mix(1., smoothstep(-.05, .05 + .22 * strands, facing), par.y);
  ao = M.x * (.62 + .5 * c.b) * mix(.75, 1., smoothstep(.1, .6, facing));
#elif KIND == 5
  vec4 c = mix(vec4(1), texture(skin, T), textured); a = min(1, c.a * par.x);
#if CEL > 0
  // A drawing's lashes are one stroke.
  a = smoothstep(.30, .50, c.a * par.x);
#endif
#elif KIND == 6
  vec2 d0 = chart(); vec4 grown = texture(relief, d0); vec2 q = d0 * vec2(1.7, .8) * par.x;
  float layer = M.y, dense = M.w * mix(grown.b, grown.a, par.y), g = texture(grain, q).r, h2 = texture(grain, q * .31 + .37).r;
  // Hairs end where their length is below the layer.
  float reach = (.45 + .55 * h2) * dense;
  a = smoothstep(layer - .25, layer + .15, reach) * smoothstep(.18 + .34 * layer, .50 + .34 * layer, g + .35 * dense * (1 - layer));
  // Thin at its border; seen from the side, layers would be lines.
  a = clamp(a * (1.15 - .4 * layer), 0, 1) * smoothstep(.03, mix(1., .45, par.y), dense) * smoothstep(.02, .10 + .35 * layer, facing);
#if CEL > 0
  // Drawn, it is a patch of one colour.
  a = smoothstep(.30, .36, dense * (1 - .35 * layer)) * step(.5 * layer, facing); alb *= .9 + .2 * step(.5, h2); ao = 1;
#else
  alb = max(alb, vec3(.036, .030, .026)) * (.5 + .7 * layer) * (.55 + .5 * h2 + .4 * g); ao = .6 + .4 * layer;
#endif
#elif KIND == 7
  // The grille of a microphone.
  float holes = sin(R.x * 110) * sin(R.y * 110); alb *= mix(1., 1.1 + .9 * holes, M.y);
#elif KIND == 8
  a = par.x;
#endif
#if KIND == 4 || KIND == 5 || KIND == 6
  // Elsewhere a discard would keep the card from testing depth first.
  if (a < cut) discard;
#endif
  share = vec4(M.z * a, HAIRY * a, 0, a);
  float nl = dot(n, key), S = lit(P, n); vec3 e = around(n) * ao;
  vec3 h = normalize(key + v); float nh = max(dot(n, h), 0);
#if CEL > 0
  // Heads cast no shadows upon themselves: their borders would be scribbles over a face.
#if KIND == 0
  // A drawing's face is one round form: every crease's own shade would be blotches.
  vec3 ax = of_head[0].xyz, ay = of_head[1].xyz, form = vec3(H.x, .45 * (H.y - 7.05), .75 * (H.z - .35));
  vec3 round_ = normalize(ax * form.x + ay * form.y + cross(ax, ay) * form.z);
  nl = mix(nl, dot(round_, key) + .22, .85 * M.z * step(M.y, .5) * smoothstep(5.9, 6.15, H.y));
#endif
  float level = clamp(nl * .5 + .5, 0, 1) * mix(.6, 1., mix(S, 1., .8 * M.z));
#if CEL == 2
  float bright = clamp(level * 1.15, 0, 1);
#else
  float bright = smoothstep(.40, .46, level);
#endif
#if KIND == 1
  // The upper lid's shadow upon the white.
  bright = smoothstep(.62, .72, ao);
#endif
#if KIND == 2
  // The back of the mouth is one dark red.
  alb = mix(vec3(.10, .015, .015), alb, smoothstep(.38, .62, M.x) * smoothstep(.86, .78, aside)) * mix(1., within, .35); bright = 1;
#endif
#if KIND == 0
  // The nose and the lower lip show by their undersides.
  vec2 nose = vec2(H.x, H.y - 6.87) / vec2(.13, .065), lip = vec2(H.x, H.y - 6.475) / vec2(.17, .06);
  float there = M.z * step(1.1, H.z) * max(.30 * smoothstep(1., .3, dot(nose, nose)), .25 * smoothstep(1., .8, dot(lip, lip)));
  bright *= 1 - there * smoothstep(.30, .42, -dot(n, of_head[1].xyz));
  // The chin shades the neck, whose border with the face is drawn by that.
  bright *= 1 - smoothstep(.0, .03, 6.10 + .5 * (1.3 - H.z) - H.y) * smoothstep(5.74, 5.77, H.y - .3 * H.x * H.x);
#endif
  colour = vec4(alb * mix(shade, vec3(1), bright), a);
#if KIND == 4 && CEL == 1
  // A ring of light round the head, across its strands.
  vec3 hx = of_head[0].xyz, hy = of_head[1].xyz; float th = dot(normalize(hx * H.x + hy * H.y + cross(hx, hy) * H.z + 1e-4), h);
  colour.rgb += .30 * smoothstep(.985, .992, sqrt(max(1 - th * th, 0))) * smoothstep(.55, .65, nh) * smoothstep(.35, .6, strands) * tint;
#endif
#if KIND == 8
  colour.rgb = tint;
#endif
  colour.rgb = sqrt(clamp(colour.rgb, 0, 1)) * a; share = vec4(M.z * a, HAIRY * a, 0, a);
#else
  vec3 d = key_colour * clamp(nl, 0, 1) * S, d2 = fill_colour * clamp(dot(n, fill) * .8 + .2, 0, 1);
  float fresnel = 1 - max(facing, 0); fresnel *= fresnel; fresnel = .03 + .3 * fresnel * fresnel;
  float sp = 0; vec3 rs = vec3(0);
#if KIND == 0
  // Light comes through skin, not through hair that is painted on it.
  float flesh = min(1., 2.5 * oily);
  vec3 w = vec3(.38, .16, .09) * flesh;
  d = key_colour * clamp((nl + w) / (1 + w), 0, 1) * mix(vec3(.20, .06, .035) * flesh, vec3(1), S);
  d2 = fill_colour * clamp((dot(n, fill) + w) / (1 + w), 0, 1) * min(1., 1.4 * ao);
  vec3 h2 = normalize(fill + v); float nh2 = max(dot(n, h2), 0);
  sp = gloss * oily * (.10 * sharp(nh, 12) + .20 * sharp(nh, 60));
  // What a brightened dark face mirrors would lie over it as ash.
  rs = around(reflect(-v, n)) * fresnel * .4 * ao * ao * flesh * min(1., 2. * sqrt(par.x)) + gloss * oily * .10 * ao * fill_colour * sharp(nh2, 40);
#elif KIND == 1
  d = key_colour * clamp(nl * .6 + .4, 0, 1) * mix(.5, 1., S) * ao; d2 *= ao;
  // Windows and lamps are seen in the wet cornea as small bright patches.
  float window = smoothstep(.984, .991, dot(cornea, h)), lamp = smoothstep(.990, .995, dot(cornea, normalize(fill + v)));
  // A camera that brightens a dark face would fill its irises with what they mirror.
  rs = tint * tint * tint * (around(reflect(-v, cornea)) * (.03 + .2 * fresnel) * ao + ao * (window * .8 * (key_colour * max(S, .3) + .4 * around(key)) + lamp * .6 * fill_colour));
#elif KIND == 2
  d = key_colour * clamp(nl * .5 + .5, 0, 1) * mix(.7, 1., S) * ao; d2 = mix(fill_colour * .5, d2, .6) * ao; sp = .4 * ao * sharp(nh, 80);
#elif KIND == 3
  sp = .02 * sharp(nh, 10); d *= ao; d2 *= ao;
#elif KIND == 4
  // Strands shine across themselves (Kajiya and Kay), once white and once in their own colour (Marschner et al.).
  vec3 x = of_head[0].xyz, y = of_head[1].xyz, t = normalize(x * H.x + y * H.y + cross(x, y) * H.z + 1e-4);
  float tl = dot(t, key); d = key_colour * mix(clamp(nl, 0, 1), sqrt(max(1 - tl * tl, 0)) * clamp(nl * .6 + .4, 0, 1), .5) * S * ao;
  float shift = .35 * (strands - .5) + .25 * (lum), t1 = dot(normalize(t + n * (shift - .12)), h), t2 = dot(normalize(t + n * (shift + .18)), h);
  float white = sharp(sqrt(max(1 - t1 * t1, 0)), 90), own = sharp(sqrt(max(1 - t2 * t2, 0)), 25);
  sp = (.03 + .08 * gloss) * white * (.3 + 1.2 * strands) * ao; alb *= 1 + (.4 + .8 * gloss) * own * clamp(nl, 0, 1) * S;
  rs = around(reflect(-v, n)) * fresnel * .12 * ao * strands;
#elif KIND == 6
  d = key_colour * clamp(nl * .7 + .3, 0, 1) * mix(.3, 1., S); sp = .10 * h2 * layer * sharp(nh, 8);
#elif KIND == 7
  sp = .6 * par.y * (1 - M.y) * sharp(nh, 80); rs = around(reflect(-v, n)) * par.x * (1 - M.y);
#elif KIND == 8
  rs = around(reflect(-v, n)) * (.04 + fresnel) + key_colour * .35 * pow(nh, 120);
#endif
#if KIND == 8
  // A lens adds its reflections to what is behind it.
  colour = vec4(tone(alb * (e + d)) * a + .35 * min(rs * exposure, 1.), a);
#else
  colour = vec4(tone(alb * (e + d + d2) + sp * key_colour * S * max(nl, 0) + rs) * a, a);
#endif
#endif
}
#endif
"""

SHADOW_VERTEX = """#version 330
in vec3 place; in vec2 uv; out vec2 T; uniform mat4 camera;
void main() { T = uv; gl_Position = camera * vec4(place, 1); }
"""
SHADOW_FRAGMENT = """#version 330
void main() {}
"""
# What may discard is not tested by its depth first: a program of its own for hair.
HOLES_FRAGMENT = """#version 330
in vec2 T; uniform sampler2D skin;
void main() { if (texture(skin, T).a < .45) discard; }
"""

# Which triangle a pixel shows, and how far it is.
POINT_VERTEX = """#version 330
in vec3 place; in vec2 uv; out vec2 T; out float away; uniform mat4 camera;
void main() { T = uv; gl_Position = camera * vec4(place, 1); away = gl_Position.w; }
"""
POINT_FRAGMENT = """#version 330
in vec2 T; in float away; out vec2 found; uniform sampler2D skin; uniform float first;
void main() {
#ifdef HOLES
  if (texture(skin, T).a < .5) discard;
#endif
  found = vec2(first + float(gl_PrimitiveID) + 1.0, away);
}
"""
