export const writeReport = () => 'nothing yet';
