// Sums of 128-bit integers over all particles. CPU twin: engine/src/backend/gpu/tally.rs::sum_of_limbs
//
// Each sum is kept as eight limbs of 16 bits in words of 32, so that limbs can be
// added in any order by whoever comes first, without carries; 65,536 additions fit. A workgroup adds up its own, carries once,
// and adds the result to the record that the host reads. Who assembles the
// shader says how many SUMS a record has, the index FLAGS of its word of flags, and its length RECORD.

const LIMBS: u32 = 8u;

var<workgroup> limbs: array<atomic<u32>, SUMS * 8u>;

/// Adds to one of the sums of this workgroup.
fn tally_add(sum: u32, v: vec4<u32>) {
    for (var word = 0u; word < 4u; word++) {
        let first = sum * LIMBS + 2u * word;
        atomicAdd(&limbs[first], v[word] & 0xffffu);
        atomicAdd(&limbs[first + 1u], v[word] >> 16u);
    }
}

/// Adds a × b to three sums.
fn tally_cross(sum: u32, a: array<vec2<u32>, 3>, b: array<vec2<u32>, 3>) {
    tally_add(sum, cross_component(a[1], a[2], b[1], b[2]));
    tally_add(sum + 1u, cross_component(a[2], a[0], b[2], b[0]));
    tally_add(sum + 2u, cross_component(a[0], a[1], b[0], b[1]));
}

/// Adds the sums of this workgroup to the record. All of its invocations must come here.
fn tally_close(slot: u32, lane: u32) {
    workgroupBarrier();
    if lane < SUMS {
        var carry = 0u;
        for (var limb = 0u; limb < LIMBS; limb++) {
            let total = atomicLoad(&limbs[lane * LIMBS + limb]) + carry;
            carry = total >> 16u;
            if (total & 0xffffu) != 0u {
                atomicAdd(&tally[slot * RECORD + lane * LIMBS + limb], total & 0xffffu);
            }
        }
    }
}

/// Says that something left its range.
fn tally_flag(slot: u32, flag: u32) {
    atomicOr(&tally[slot * RECORD + FLAGS], flag);
}
