//! The functions for arguments and environment.

use super::errno::{Errno, Fail, answer};
use super::guest::{bytes_mut, check, write};
use crate::sandbox::{HostState, Stop};

/// Writes the arguments, each followed by a NUL, and a table of pointers to them.
pub fn args_get(host: &mut HostState, memory: &mut [u8], argv: i32, buf: i32) -> Result<i32, Stop> {
    answer(|| {
        let args = host
            .program
            .args
            .iter()
            .map(|arg| [arg.as_slice(), b"", b""]);
        put(memory, argv, buf, args)
    })
}

/// Writes how many arguments there are and how many bytes they take.
pub fn args_sizes_get(
    host: &mut HostState,
    memory: &mut [u8],
    count: i32,
    size: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let args = host
            .program
            .args
            .iter()
            .map(|arg| [arg.as_slice(), b"", b""]);
        put_sizes(memory, count, size, args)
    })
}

/// Writes the environment as `name=value`, each followed by a NUL, and a table of pointers to them.
pub fn environ_get(
    host: &mut HostState,
    memory: &mut [u8],
    environ: i32,
    buf: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let env = host.program.env.iter();
        let env = env.map(|(name, value)| [name.as_bytes(), b"=", value.as_slice()]);
        put(memory, environ, buf, env)
    })
}

/// Writes how many environment variables there are and how many bytes they take.
pub fn environ_sizes_get(
    host: &mut HostState,
    memory: &mut [u8],
    count: i32,
    size: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let env = host.program.env.iter();
        let env = env.map(|(name, value)| [name.as_bytes(), b"=", value.as_slice()]);
        put_sizes(memory, count, size, env)
    })
}

/// The number of `strings` and of their bytes. Each string is the concatenation of its parts and a NUL.
fn sizes<'a>(strings: impl Iterator<Item = [&'a [u8]; 3]>) -> Result<(u32, u32), Errno> {
    let (mut count, mut size) = (0u32, 0usize);
    for parts in strings {
        count += 1;
        size += parts.iter().map(|part| part.len()).sum::<usize>() + 1;
    }
    Ok((count, u32::try_from(size).map_err(|_| Errno::OVERFLOW)?))
}

fn put_sizes<'a>(
    memory: &mut [u8],
    count_at: i32,
    size_at: i32,
    strings: impl Iterator<Item = [&'a [u8]; 3]>,
) -> Result<(), Fail> {
    let (count, size) = sizes(strings)?;
    check(memory, size_at, 4)?;
    write(memory, count_at, count.to_le_bytes())?;
    write(memory, size_at, size.to_le_bytes())?;
    Ok(())
}

fn put<'a>(
    memory: &mut [u8],
    table: i32,
    buffer: i32,
    strings: impl Iterator<Item = [&'a [u8]; 3]> + Clone,
) -> Result<(), Fail> {
    let (count, size) = sizes(strings.clone())?;
    check(memory, buffer, size)?;
    let table_size = count.checked_mul(4).ok_or(Errno::OVERFLOW)?;
    check(memory, table, table_size)?;
    // Both areas are in memory, so neither pointer can wrap.
    let mut at = buffer.cast_unsigned();
    for (index, parts) in strings.enumerate() {
        let entry = table.cast_unsigned() + 4 * index as u32;
        write(memory, entry.cast_signed(), at.to_le_bytes())?;
        for part in parts {
            let len = part.len() as u32;
            bytes_mut(memory, at.cast_signed(), len.cast_signed())?.copy_from_slice(part);
            at += len;
        }
        write(memory, at.cast_signed(), [0])?;
        at = at.wrapping_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::sandbox::hostcalls::{args_get, args_sizes_get, environ_get, environ_sizes_get};
    use crate::sandbox::wasi::testing::{EFAULT, OK, host, u32_at};

    #[test]
    fn arguments_and_environment_arrive_in_order() {
        let mut host = host();
        let mut memory = vec![0xaa; 256];
        assert_eq!(args_sizes_get(&mut host, &mut memory, 0, 4), OK);
        // "app.wasm\0--verbose\0"
        assert_eq!((u32_at(&memory, 0), u32_at(&memory, 4)), (2, 19));
        assert_eq!(args_get(&mut host, &mut memory, 8, 64), OK);
        assert_eq!((u32_at(&memory, 8), u32_at(&memory, 12)), (64, 73));
        assert_eq!(&memory[64..84], b"app.wasm\0--verbose\0\xaa");
        assert_eq!(&memory[16..64], [0xaa; 48]);

        assert_eq!(environ_sizes_get(&mut host, &mut memory, 0, 4), OK);
        assert_eq!((u32_at(&memory, 0), u32_at(&memory, 4)), (2, 13));
        assert_eq!(environ_get(&mut host, &mut memory, 8, 128), OK);
        assert_eq!((u32_at(&memory, 8), u32_at(&memory, 12)), (128, 134));
        assert_eq!(&memory[128..142], b"A=one\0EMPTY=\0\xaa");
    }

    #[test]
    fn a_buffer_outside_of_memory_changes_nothing() {
        let mut host = host();
        let mut memory = vec![0xaa; 64];
        for (table, buffer) in [(0, -1), (-1, 0), (60, 0), (0, 52), (i32::MIN, i32::MAX)] {
            assert_eq!(args_get(&mut host, &mut memory, table, buffer), EFAULT);
            assert_eq!(environ_get(&mut host, &mut memory, table, buffer), EFAULT);
        }
        for (count, size) in [(0, 61), (61, 0), (-1, -4)] {
            assert_eq!(args_sizes_get(&mut host, &mut memory, count, size), EFAULT);
            assert_eq!(
                environ_sizes_get(&mut host, &mut memory, count, size),
                EFAULT
            );
        }
        assert_eq!(memory, [0xaa; 64]);
        assert_eq!(args_get(&mut host, &mut [], 0, 0), EFAULT);
    }
}
