import { describe, expect, it } from 'vitest';
import { sourceOf } from '../scripts/lavapipe.mjs';

const deb822 = `Types: deb
# http://snapshot.example/archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`;

describe('where lavapipe comes from', () => {
  it('is the mirror of the machine, with its key', () => {
    expect(sourceOf(['deb https://other.example/apt stable main\n', deb822], 'bookworm', 'bookworm-backports')).toBe(
      'deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian bookworm-backports main',
    );
  });

  it('is found in the short format, with its options', () => {
    const text = '# deb http://old.example/debian bookworm main\ndeb [arch=amd64] http://mirror.example/debian bookworm main contrib\n';
    expect(sourceOf([text], 'bookworm', 'bookworm-backports')).toBe(
      'deb [arch=amd64] http://mirror.example/debian bookworm-backports main',
    );
  });

  it('is not made up where no source has the release or its main component', () => {
    expect(sourceOf([deb822], 'trixie', 'trixie')).toBeUndefined();
    expect(sourceOf(['deb http://mirror.example/debian bookworm contrib\n'], 'bookworm', 'x')).toBeUndefined();
  });
});
