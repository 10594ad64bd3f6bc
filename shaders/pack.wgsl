// The states in chosen rows, packed for exchange. CPU twin: engine/src/particle.rs::pack
//
// Whoever needs a few particles of many (a neighbour, an observer) gets these and no more.

/// What one dispatch needs to know. Its mirror is `Pack` in engine/src/backend/gpu/programs.rs.
struct Pack {
    /// Rows of all columns, padding included.
    rows: u32,
    /// How many are chosen.
    chosen: u32,
}

@group(0) @binding(0) var<storage, read> position: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> momentum: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
/// Per chosen row x, y, z of its position, then of its momentum.
@group(0) @binding(3) var<storage, read_write> packed: array<vec2<u32>>;
var<immediate> pack: Pack;

@compute @workgroup_size(GROUP)
fn pack_rows(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= pack.chosen { return; }
    let row = chosen[id.x];
    for (var axis = 0u; axis < 3u; axis++) {
        packed[6u * id.x + axis] = position[axis * pack.rows + row];
        packed[6u * id.x + 3u + axis] = momentum[axis * pack.rows + row];
    }
}
